"""What a person sees: lines, tables, lines that move, figures."""
