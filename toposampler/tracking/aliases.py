"""What a version of a registered model may go by."""

CANDIDATE, CHAMPION = "candidate", "champion"
