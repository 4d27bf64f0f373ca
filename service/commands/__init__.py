"""The commands of `sayso`, one module a group; `service.__main__` puts them together.

serve                                   runs the server
enroll, voices                          enroll; verify, identify: recordings to a server
speakers, groups                        what a server holds
models, status                          model files, settings, readiness
batch, manifest, results                enroll --manifest
keys                                    who may call: API keys, client certificates
terminal, options, connection           what every command prints to, reads and calls
"""
