"""The words of CellProfiler's feature names, in the order in which the kernels return values."""

from __future__ import annotations

STANDARD_SHAPE = (
    "Area",
    "BoundingBoxArea",
    "BoundingBoxMaximum_X",
    "BoundingBoxMaximum_Y",
    "BoundingBoxMinimum_X",
    "BoundingBoxMinimum_Y",
    "Center_X",
    "Center_Y",
    "Compactness",
    "ConvexArea",
    "Eccentricity",
    "EquivalentDiameter",
    "EulerNumber",
    "Extent",
    "FormFactor",
    "MajorAxisLength",
    "MaxFeretDiameter",
    "MaximumRadius",
    "MeanRadius",
    "MedianRadius",
    "MinFeretDiameter",
    "MinorAxisLength",
    "Orientation",
    "Perimeter",
    "Solidity",
)
"""What CellProfiler 4 measures with its advanced features off."""

LOW_ORDERS = tuple((p, q) for p in range(3) for q in range(4))
ADVANCED_SHAPE = (
    *(f"SpatialMoment_{p}_{q}" for p, q in LOW_ORDERS),
    *(f"CentralMoment_{p}_{q}" for p, q in LOW_ORDERS),
    *(f"NormalizedMoment_{p}_{q}" for p in range(4) for q in range(4)),
    *(f"HuMoment_{i}" for i in range(7)),
    *(f"InertiaTensor_{i}_{j}" for i in range(2) for j in range(2)),
    *(f"InertiaTensorEigenvalues_{i}" for i in range(2)),
)
"""What the advanced features add; NormalizedMoment_0_0, _0_1 and _1_0 are undefined (NaN)."""

EXTRA_SHAPE = ("FilledArea", "PerimeterCrofton")
"""What cp-measure adds."""

DEGREE = 9
ORDERS = tuple((n, m) for n in range(DEGREE + 1) for m in range(n % 2, n + 1, 2))

INTENSITY = (
    "IntegratedIntensity",
    "MeanIntensity",
    "StdIntensity",
    "MinIntensity",
    "MaxIntensity",
    "IntegratedIntensityEdge",
    "MeanIntensityEdge",
    "StdIntensityEdge",
    "MinIntensityEdge",
    "MaxIntensityEdge",
    "MassDisplacement",
    "LowerQuartileIntensity",
    "MedianIntensity",
    "MADIntensity",
    "UpperQuartileIntensity",
)
LOCATION = ("CenterMassIntensity_X", "CenterMassIntensity_Y", "MaxIntensity_X", "MaxIntensity_Y")

RADIAL = ("FracAtD", "MeanFrac", "RadialCV")

HARALICK = (
    "AngularSecondMoment",
    "Contrast",
    "Correlation",
    "Variance",
    "InverseDifferenceMoment",
    "SumAverage",
    "SumVariance",
    "SumEntropy",
    "Entropy",
    "DifferenceVariance",
    "DifferenceEntropy",
    "InfoMeas1",
    "InfoMeas2",
)

NEIGHBORS = (
    "NumberOfNeighbors",
    "PercentTouching",
    "FirstClosestDistance",
    "SecondClosestDistance",
    "AngleBetweenNeighbors",
)

IMAGE = (
    "TotalIntensity",
    "MeanIntensity",
    "MedianIntensity",
    "StdIntensity",
    "MADIntensity",
    "MinIntensity",
    "MaxIntensity",
    "LowerQuartileIntensity",
    "UpperQuartileIntensity",
    "PercentMaximal",
)
