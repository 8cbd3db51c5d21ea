#!/usr/bin/env python3
"""Serve a WSGI application on 127.0.0.1 with waitress: wsgi_serve.py MODULE:ATTRIBUTE PORT THREADS [ARGUMENT...]

OpenStack's WSGI modules read sys.argv with oslo.config: the remaining arguments are for them.
"""
import importlib
import sys

import waitress

if __name__ == "__main__":
    module, attribute = sys.argv[1].split(":")
    port, threads = int(sys.argv[2]), int(sys.argv[3])
    sys.argv = [module.split(".")[0], *sys.argv[4:]]
    application = getattr(importlib.import_module(module), attribute)
    waitress.serve(application, listen=f"127.0.0.1:{port}", threads=threads, ident="testbed",
                   clear_untrusted_proxy_headers=False, connection_limit=500)
