"""What all rings of tests share."""

pytest_plugins = ["pytester"]
