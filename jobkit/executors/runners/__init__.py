"""Programs that run in the child: they import what they need themselves."""
