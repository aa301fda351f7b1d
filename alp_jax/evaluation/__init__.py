"""What a frozen encoder is worth: probes, retrieval, floors."""
