"""Who has which value: addresses, MACs, VSIDs and provider addresses."""
