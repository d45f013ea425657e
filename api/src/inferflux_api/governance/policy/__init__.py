"""The policy: who may do what and how much. One document with a history, in force in every replica.

`document` says what it holds, `changes` how it may change, `effect` what it does to a configuration;
`store` keeps it, sealed, in one of the `storages`, and `live` has it in force while a server runs.
"""
