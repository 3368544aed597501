"""What several test files share: small models, files in official layouts, a pretended device."""
