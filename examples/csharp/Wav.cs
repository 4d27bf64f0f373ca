using System.Buffers.Binary;
using System.Text;

/// <summary>Reads the samples of a WAV file that holds G.711 mu-law, as a telephone line sends them.</summary>
static class Wav
{
    private const int Mulaw = 7;

    /// <summary>Returns the mu-law bytes of a file at 8 kHz with one channel.</summary>
    public static byte[] ReadMulaw(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        bool suitable = false;
        for (int start = 12; start + 8 <= file.Length;)
        {
            string name = Encoding.ASCII.GetString(file, start, 4);
            long size = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(start + 4));
            var chunk = file.AsSpan(start + 8, (int)Math.Min(size, file.Length - start - 8));
            if (name == "fmt ")
            {
                suitable = BinaryPrimitives.ReadUInt16LittleEndian(chunk) == Mulaw
                    && BinaryPrimitives.ReadUInt16LittleEndian(chunk[2..]) == 1
                    && BinaryPrimitives.ReadUInt32LittleEndian(chunk[4..]) == 8000;
            }
            if (name == "data" && suitable)
            {
                return chunk.ToArray();
            }
            start += 8 + chunk.Length + chunk.Length % 2; // chunks begin at even offsets
        }
        throw new IOException(
            $"{path}: is not mu-law at 8 kHz; ffmpeg -i {path} -ac 1 -ar 8000 -acodec pcm_mulaw call.wav");
    }
}
