package dev.sayso.example;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads the samples of a WAV file that holds G.711 mu-law, as a telephone line sends them. */
final class Wav {
  private static final int MULAW = 7;

  private Wav() {}

  /** Returns the mu-law bytes of a file at 8 kHz with one channel. */
  static ByteBuffer readMulaw(Path path) throws IOException {
    ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    boolean suitable = false;
    for (int start = 12; start + 8 <= file.limit(); ) {
      byte[] name = new byte[4];
      file.get(start, name);
      long size = Integer.toUnsignedLong(file.getInt(start + 4));
      int end = (int) Math.min(start + 8 + size, file.limit());
      switch (new String(name, StandardCharsets.ISO_8859_1)) {
        case "fmt " ->
            suitable =
                file.getShort(start + 8) == MULAW
                    && file.getShort(start + 10) == 1
                    && file.getInt(start + 12) == 8000;
        case "data" -> {
          if (suitable) {
            return file.slice(start + 8, end - start - 8);
          }
        }
        default -> {}
      }
      start = end + (int) (size % 2); // chunks begin at even offsets
    }
    throw new IOException(
        path + ": is not mu-law at 8 kHz; ffmpeg -i " + path + " -ac 1 -ar 8000 -acodec pcm_mulaw call.wav");
  }
}
