"""Imported by the server that runs are forked from: the command line is built there, once for all."""

from mrisr.cli import command

command()
