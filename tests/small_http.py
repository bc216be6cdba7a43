"""A loopback HTTP server that closes without a trace, whatever its clients left open."""

import contextlib
import socket
import threading
from http.server import ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Answers by a request handler until `end`; `url` is where it is found."""

    daemon_threads = False  # threads are waited for at the end, so that no test leaves one behind
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self._connections, self._lock = set(), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    def end(self):
        """Close all connections and wait for their threads."""
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the client closed it
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for the next request
        self.server_close()  # joins the threads of the connections

    def process_request(self, request, client_address):
        """Remember a connection."""
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        """Forget a connection."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Say nothing: clients may go away at any time."""
