"""What users write: the kinds, YAML read with its lines, documents as the store keeps them."""
