"""The models of use_django."""
