import Foundation

/// Audio as a WAV file: mono 16-bit PCM without dither, so that equal audio gives equal bytes.
public struct WaveFile: Sendable, Equatable {
    /// PCM value of 1.0; symmetric, so that -1.0 and 1.0 are equally far from 0.
    public static let fullScale: Double = 32_767

    /// A file counts its bytes in 32 bits.
    private static let mostSamples = (1 << 31) - 64
    private static let bytesPerSample = 2
    /// A file counts its bytes per second in 32 bits too.
    private static let sampleRates = 1...Int(UInt32.max) / bytesPerSample

    /// The bytes of the file.
    public let data: Data
    /// How many samples lay above full scale and were clipped.
    public let clippedSamples: Int
    /// Largest magnitude of the samples before clipping, 1.0 being full scale.
    public let peak: Float

    /// Encodes audio.
    ///
    /// - Parameters:
    ///   - samples: 1.0 being full scale; what lies outside [-1, 1] is clipped.
    ///   - sampleRate: Hz.
    /// - Throws: `KokoroError.parity` if the audio is empty, or holds NaN or infinity;
    ///   `KokoroError.bundle` if it is longer than 2^31 - 64 samples; `KokoroError.argument` if
    ///   the sample rate is not within 1 and 2^31 - 1.
    public init(samples: [Float], sampleRate: Int) throws {
        guard !samples.isEmpty else {
            throw KokoroError.parity("audio must be [N] with N > 0, found shape [0]")
        }
        if let first = samples.firstIndex(where: { !$0.isFinite }) {
            let bad = samples.lazy.filter { !$0.isFinite }.count
            throw KokoroError.parity(
                "audio holds \(bad) samples that are NaN or infinite, the first at \(first); "
                    + "nothing was written")
        }
        guard Self.sampleRates.contains(sampleRate) else {
            throw KokoroError.argument("a WAV file cannot have a sample rate of \(sampleRate) Hz")
        }
        guard samples.count <= Self.mostSamples else {
            throw KokoroError.bundle(
                "\(samples.count) samples do not fit a WAV file, which holds \(Self.mostSamples)")
        }
        var bytes = Self.header(samples: samples.count, sampleRate: sampleRate)
        for sample in samples {
            LittleEndian.append(Self.pcm(sample), to: &bytes)
        }
        data = bytes
        clippedSamples = samples.lazy.filter { abs($0) > 1 }.count
        peak = samples.reduce(0) { max($0, abs($1)) }
    }

    /// Writes the file, whole or not at all.
    ///
    /// - Parameters:
    ///   - url: of the file.
    ///   - replacing: whether a file that exists is replaced.
    /// - Throws: `KokoroError.bundle` if it exists and is not to be replaced, or cannot be written.
    public func write(to url: URL, replacing: Bool = false) throws {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        if exists && isFolder.boolValue {
            throw KokoroError.bundle("'\(url.path)' is a folder; give the path of a WAV file")
        }
        if exists && !replacing {
            throw KokoroError.bundle("'\(url.path)' exists already; choose another place")
        }
        do {
            try data.write(to: url, options: .atomic)
        } catch {
            throw KokoroError.bundle(
                "cannot write '\(url.path)': \(error.localizedDescription); choose another place")
        }
    }

    private static func pcm(_ sample: Float) -> Int16 {
        let clipped = min(max(sample, -1), 1)
        return Int16((Double(clipped) * fullScale).rounded(.toNearestOrEven))
    }

    /// Header of a canonical file: RIFF, a `fmt ` chunk of 16 bytes, and the `data` chunk's own.
    private static func header(samples: Int, sampleRate: Int) -> Data {
        let payload = UInt32(samples * bytesPerSample)
        let headerBytes: UInt32 = 44
        let riffPrefix: UInt32 = 8
        let pcmFormat: UInt16 = 1
        let channels: UInt16 = 1
        var data = Data("RIFF".utf8)
        LittleEndian.append(headerBytes - riffPrefix + payload, to: &data)
        data.append(contentsOf: "WAVEfmt ".utf8)
        LittleEndian.append(UInt32(16), to: &data)
        LittleEndian.append(pcmFormat, to: &data)
        LittleEndian.append(channels, to: &data)
        LittleEndian.append(UInt32(sampleRate), to: &data)
        LittleEndian.append(UInt32(sampleRate * bytesPerSample), to: &data)
        LittleEndian.append(UInt16(bytesPerSample), to: &data)
        LittleEndian.append(UInt16(8 * bytesPerSample), to: &data)
        data.append(contentsOf: "data".utf8)
        LittleEndian.append(payload, to: &data)
        return data
    }
}
