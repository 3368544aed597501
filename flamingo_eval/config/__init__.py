"""What the user chose: specs, their YAML files, names and settings."""
