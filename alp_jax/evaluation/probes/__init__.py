"""Labels read off a frozen encoder: linear, by attention, by words."""
