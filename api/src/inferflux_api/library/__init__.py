"""Models that come and go while the server runs: a folder of files by digest, and names for them.

`names` checks what clients call models; `store` keeps blobs and manifests; `serving` puts the named models
into the engine pool; `transfer` downloads a blob; `registries` knows where models come from.
"""
