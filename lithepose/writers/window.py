"""A window that shows drawn frames."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np

from ..errors import ConfigError

SCREEN = 0.9  # share of the screen that a window takes at most


class Window:
    """Shows the newest of the images that it is given.

    :meth:`put` may be called in any thread. The other methods must be called in the thread that made the window, the
    main thread, since window systems require it.

    Raises:
        ConfigError: there is no display, or this Python has no tkinter.
    """

    def __init__(self) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise ConfigError("--show: this Python has no tkinter; install python3-tk, or omit --show") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise ConfigError(f"--show: no window can be opened ({error}); omit --show") from error
        self._tk, self._lock = tkinter, threading.Lock()
        self._newest: np.ndarray | None = None
        self._shown: tkinter.PhotoImage | None = None  # tkinter keeps no reference of its own
        self.closed = False
        self._root.title("lithepose")
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self.close())

    def put(self, image: np.ndarray) -> None:
        """Show an image at the next :meth:`refresh`, (H, W, 3 or 4) uint8 RGB or RGBA."""
        with self._lock:
            self._newest = image

    def refresh(self) -> bool:
        """Show the newest image and process window events; False once the window is closed."""
        with self._lock:
            image, self._newest = self._newest, None
        if not self.closed and image is not None:
            shown = self._tk.PhotoImage(master=self._root, data=self._encoded(image), format="ppm")
            self._label.configure(image=shown)
            self._shown = shown
        if not self.closed:
            self._root.update()
        return not self.closed

    def wait(self) -> None:
        """Keep the last image until the window is closed, by its button, Escape or q."""
        while self.refresh():  # not mainloop, which does not react to Ctrl-C
            time.sleep(0.05)

    def close(self) -> None:
        """Close the window."""
        if not self.closed:
            self.closed = True
            self._root.destroy()

    def _encoded(self, image: np.ndarray) -> bytes:
        """An image as a PPM file, reduced to fit the screen."""
        height, width = image.shape[:2]
        limits = self._root.winfo_screenwidth() / width, self._root.winfo_screenheight() / height
        scale = min(1.0, SCREEN * min(limits))
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return b"P6 %d %d 255\n" % (image.shape[1], image.shape[0]) + np.ascontiguousarray(image[..., :3]).tobytes()
