import Foundation

/// A bundle on disk whose manifest was read: its vocabulary, its voices and its buckets.
public struct BundleFolder: Sendable {
    /// The folder.
    public let url: URL
    /// What it holds.
    public let manifest: Manifest
    /// The phonemes its network knows.
    public let vocabulary: Vocabulary
    private let voiceShape: VoiceShape

    /// Opens a bundle.
    ///
    /// - Parameters:
    ///   - url: its folder.
    ///   - verifying: whether every file is compared with the manifest, which reads all of them.
    /// - Throws: `KokoroError.bundle` if it is no bundle or not what was written,
    ///   `KokoroError.checkpoint` if its vocabulary or its voices' shape cannot be read.
    public init(_ url: URL, verifying: Bool = true) throws {
        self.url = url
        manifest = try verifying ? BundleFiles.verify(bundle: url) : Manifest(bundle: url)
        let configuration = try Self.content(of: manifest.vocabulary, in: url)
        vocabulary = try Vocabulary(
            configuration: configuration, maxPhonemes: manifest.maxPhonemes,
            document: manifest.vocabulary)
        voiceShape = try VoiceShape(configuration: configuration, document: manifest.vocabulary)
    }

    /// Names of the voices; the first is the default, the one that spoke the sample.
    public var voices: [String] {
        let names = manifest.voices.map(\.name)
        let spoken = names.filter { name in manifest.sample.map { same($0.voice, name) } ?? false }
        return spoken + names.filter { name in !spoken.contains { same($0, name) } }
    }

    /// A voice of the bundle, or a blend of several.
    ///
    /// - Parameter specification: a name out of `voices`, or what `VoiceBlend` reads; nil or an
    ///   empty text is the default voice.
    /// - Returns: its styles.
    /// - Throws: `KokoroError.voice` if there is no such voice, the blend cannot be parsed, or the
    ///   voice has another shape than the network takes; `KokoroError.bundle` if its file is not
    ///   what the manifest says.
    public func voice(_ specification: String? = nil) throws -> VoicePack {
        let named = specification.flatMap { $0.isEmpty ? nil : $0 }
        guard let wanted = named ?? voices.first else {
            throw KokoroError.voice("the bundle has no voices; convert it again with one")
        }
        if let record = record(of: wanted) { return try pack(record) }
        let blend = try VoiceBlend(wanted)
        return try VoicePack.blended(
            blend.parts.map { part in
                guard let record = record(of: part.name) else { throw unknown(part.name) }
                return (try pack(record), part.weight)
            })
    }

    private func record(of name: String) -> Manifest.Voice? {
        manifest.voices.first { same($0.name, name) }
    }

    private func unknown(_ name: String) -> KokoroError {
        let known = voices.isEmpty ? "none" : voices.joined(separator: ", ")
        return .voice("the bundle has no voice \(quoted(name)); it has: \(known)")
    }

    private func pack(_ record: Manifest.Voice) throws -> VoicePack {
        let data = try Self.content(of: record.file, in: url)
        let expected = VoicePack.byteCount(rows: record.rows, columns: record.columns)
        guard record.type == .float32, data.count == expected else {
            throw KokoroError.bundle(
                "'\(record.file)' must be \(expected) bytes of float32 [\(record.rows), "
                    + "\(record.columns)], found \(data.count) bytes of \(record.type.rawValue)")
        }
        guard record.rows == voiceShape.rows, record.columns == voiceShape.columns else {
            throw KokoroError.voice(
                "voice \(record.name): expected shape [\(voiceShape.rows), "
                    + "\(voiceShape.columns)], found [\(record.rows), \(record.columns)]")
        }
        return try VoicePack(
            name: record.name, bytes: data, rows: record.rows, columns: record.columns)
    }

    private static func content(of path: String, in folder: URL) throws -> Data {
        do {
            return try Data(contentsOf: folder.appendingPathComponent(path))
        } catch {
            throw KokoroError.bundle("cannot read '\(path)': \(error.localizedDescription)")
        }
    }
}
