"""The recipe: sections, loading, overrides, schema, building."""
