"""What you rarely touch: the MLflow server of this project and its history."""
