"""What a result can be written as: SVG, animation, sheet, JSON, PDF, card."""
