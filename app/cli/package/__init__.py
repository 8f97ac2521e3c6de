"""The commands of classifyd package."""
