"""Google Cloud bills of the demonstration: rows in one form, and the detailed, standard and FOCUS exports."""
