"""The commands of `sayso`, one module a group; `service.__main__` puts them together.

serve, gateway                          runs the server; connects call platforms to one
webhooks                                gateway webhooks: what endpoints have not taken
enroll, voices                          enroll; verify, identify: recordings to a server
speakers, groups                        what a server holds
models, status, environment             model files, settings, readiness
demo                                    a server that voices are tried on
batch, manifest                         enroll --manifest
migrate, voice_id_job                   what another service had
keys, tenants                           who may call; the keys that seal a store
audit, drift                            the audit trail; drift of scores
terminal, options, access               shared by commands: output, options, connection
application, health                     all commands as one program; one that starts at once
"""
