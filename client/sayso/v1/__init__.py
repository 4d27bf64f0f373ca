"""The messages and stubs of the API, generated from protos/sayso/v1 by `make protos`."""
