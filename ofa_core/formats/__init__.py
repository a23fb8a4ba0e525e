"""Readers and writers of public files: latency tables, network configurations, checkpoints, accuracy predictors."""
