"""The command line, a module for each command.

options ─> Request ─> an experiment ─> document ─> report.files
                                            └────> a table in the terminal
"""
