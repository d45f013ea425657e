from inferflux_core.testing import BackendContract


class TestEcho(BackendContract):
    plugin_name = "echo"
