"""The passive oracle for TCP."""
