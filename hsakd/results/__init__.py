"""What trainings gave: names of configs, runs on disk, tables and reports of them."""
