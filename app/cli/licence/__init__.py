"""The commands of classifyd licence."""
