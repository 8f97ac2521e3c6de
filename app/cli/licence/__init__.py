"""The commands of classifyd licence: the customer's and the publisher's."""
