"""The comparisons. Each file is one: its docstring says what is timed, ``jobs`` what is run, ``rows`` what the table shows."""
