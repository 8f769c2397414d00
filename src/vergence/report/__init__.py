"""What is shown: tables in the terminal, pictures, pages."""
