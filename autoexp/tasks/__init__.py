"""What a suggestion means and how it is carried out."""
