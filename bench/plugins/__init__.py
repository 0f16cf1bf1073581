"""Extensions from outside: loading a user's file, scaffolding a new package."""
