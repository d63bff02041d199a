"""`/api/v1`: what scripts ask, with a token; described by `/api/v1/openapi.json`."""
