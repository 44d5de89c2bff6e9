import Foundation
import KokoroBundle

/// One run of a function of a package, as Python recorded it.
public struct RecordedRun: Sendable {
    /// File of the package.
    public let package: String
    /// Name of the function.
    public let function: String
    /// Stage of the pipeline; nil where the cut is one package.
    public let stage: String?
    /// What went in.
    public let inputs: [RecordedTensor]
    /// What came out.
    public let outputs: [RecordedTensor]

    init(_ fields: Fields) throws {
        package = try fields.text("package")
        function = try fields.text("function")
        stage = try fields.optionalText("stage")
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
    /// The runs of each part, in turn; those of a part that was tried in vain belong to the next.
    public let partRuns: [[RecordedRun]]
    /// The runs of all parts, in turn.
    public var runs: [RecordedRun] { partRuns.flatMap { $0 } }
    /// The speech's samples.
    public let samples: RecordedTensor
    /// Frames per token of all parts.
    public let durations: RecordedTensor
    /// When each token is heard.
    public let timestamps: [Timestamp]

    /// The speech's samples: as they were recorded, or cut from the parts' audio and joined.
    ///
    /// - Returns: samples, 1.0 being full scale.
    /// - Throws: `KokoroError.bundle` if neither was recorded whole, or they are not those of the
    ///   digest.
    public func spokenSamples() throws -> [Float] {
        if samples.isWhole { return try samples.tensor.floats() }
        let joined = try zip(parts, partRuns).flatMap { part, runs -> [Float] in
            let audio = runs.last?.outputs.first { $0.name == "audio" }
            guard let audio, audio.isWhole else {
                throw KokoroError.bundle("the recording '\(id)' holds no samples")
            }
            return Array(try audio.tensor.floats().prefix(part.samples))
        }
        guard ContentDigest.of(LittleEndian.bytes(joined)) == samples.sha256 else {
            throw KokoroError.bundle("the recording '\(id)' has other samples than its parts")
        }
        return joined
    }

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
        partRuns = try recorded.map { try $0.tables("runs").map(RecordedRun.init) }
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
