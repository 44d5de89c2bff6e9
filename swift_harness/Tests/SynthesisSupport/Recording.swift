import Foundation
import KokoroBundle

/// One run of a function of a package, as Python recorded it.
public struct RecordedRun: Sendable {
    /// File of the package.
    public let package: String
    /// Name of the function.
    public let function: String
    /// What went in.
    public let inputs: [RecordedTensor]
    /// What came out.
    public let outputs: [RecordedTensor]

    init(_ fields: Fields) throws {
        package = try fields.text("package")
        function = try fields.text("function")
        inputs = try fields.tables("inputs").map(RecordedTensor.init)
        outputs = try fields.tables("outputs").map(RecordedTensor.init)
    }
}

/// An utterance that Python said, with everything that its stages took and gave.
public struct Recording: Sendable {
    /// Its name.
    public let id: String
    /// What was said.
    public let phonemes: String
    /// Name of the voice.
    public let voice: String
    /// 1 is the voice's own pace.
    public let speed: Double
    /// The parts it was said in: phonemes, buckets and number of samples.
    public let parts: [(phonemes: String, bucket: Bucket, samples: Int)]
    /// The runs of all parts, in turn.
    public let runs: [RecordedRun]
    /// The speech's samples.
    public let samples: RecordedTensor
    /// Frames per token of all parts.
    public let durations: RecordedTensor
    /// When each token is heard.
    public let timestamps: [Timestamp]

    init(_ fields: Fields) throws {
        guard try fields.number("schema") == 1 else {
            throw RecordingFailure("expected schema 1")
        }
        id = try fields.text("id")
        phonemes = try fields.text("phonemes")
        voice = try fields.text("voice")
        speed = try fields.number("speed")
        let speech = try fields.table("speech")
        samples = try RecordedTensor(speech.table("samples"))
        durations = try RecordedTensor(speech.table("durations"))
        timestamps = try speech.list("timestamps").map(Self.timestamp)
        let lengths = try speech.integers("parts")
        let recorded = try fields.tables("parts")
        guard lengths.count == recorded.count else {
            throw RecordingFailure("\(lengths.count) lengths of \(recorded.count) parts")
        }
        parts = try zip(recorded, lengths).map { part, length in
            let bucket = Bucket(
                tokens: Int(try part.number("tokens")), frames: Int(try part.number("frames")))
            return (try part.text("phonemes"), bucket, length)
        }
        runs = try recorded.flatMap { try $0.tables("runs").map(RecordedRun.init) }
    }

    private static func timestamp(_ value: JSONValue) throws -> Timestamp {
        guard case .array(let items) = value, items.count == 3 else {
            throw RecordingFailure("a timestamp is not [phoneme, start, end]")
        }
        var phoneme: Unicode.Scalar?
        if case .string(let text) = items[0], text.unicodeScalars.count == 1 {
            phoneme = text.unicodeScalars.first
        } else if items[0] != .null {
            throw RecordingFailure("a timestamp's phoneme is not one code point")
        }
        return Timestamp(
            phoneme: phoneme, start: try Fields.number(items[1]),
            end: try Fields.number(items[2]))
    }
}

/// The recordings of a bundle, with what of it is needed to speak.
public final class Recordings: Sendable {
    /// Those that are committed, seen from this file.
    public static let committed = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("artifacts/goldens/recordings")

    /// The recorded utterances, by the names of their files.
    public let all: [Recording]
    /// The bundle without its packages, which only a fake can run.
    public let bundle: BundleFolder
    private let place: TemporaryPlace

    /// Reads a folder of recordings.
    ///
    /// - Parameters:
    ///   - folder: with an `index.json`.
    ///   - voices: folder with the voice packs `NAME.bin` of the recorded voices.
    /// - Throws: if something is missing, differs from its digest, or cannot be read.
    public init(folder: URL, voices: URL) throws {
        let index = try Fields(
            JSONValue(parsing: Data(contentsOf: folder.appendingPathComponent("index.json"))))
        let files = try index.table("files")
        var contents: [String: Data] = [:]
        for name in files.names {
            let data = try Data(contentsOf: folder.appendingPathComponent(name))
            guard try files.table(name).text("sha256") == ContentDigest.of(data) else {
                throw RecordingFailure("\(name) is not what index.json says")
            }
            contents[name] = data
        }
        let own = ["manifest.json", "config.json"]
        all = try contents.keys.filter { !own.contains($0) }.sorted().map { name in
            try Recording(Fields(JSONValue(parsing: contents[name] ?? Data())))
        }
        place = try TemporaryPlace()
        for name in own {
            guard let data = contents[name] else { throw RecordingFailure("there is no \(name)") }
            try data.write(to: place.url.appendingPathComponent(name))
        }
        try FileManager.default.createSymbolicLink(
            at: place.url.appendingPathComponent("voices"), withDestinationURL: voices)
        bundle = try BundleFolder(place.url, verifying: false)
    }
}

extension Recordings {
    /// Removes the bundle's folder now; a constant that lasts as long as the process needs that.
    public func remove() { place.remove() }
}

/// A folder that is removed when it is released.
final class TemporaryPlace: Sendable {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
        "recorded-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { remove() }

    func remove() { try? FileManager.default.removeItem(at: url) }
}
