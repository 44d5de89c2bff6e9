import Foundation

/// `manifest.json`: what a bundle holds, what it was made from, and what was measured on it.
///
/// Read as strictly as Python does (`kokoro_coreml/manifest.py`): unknown keys, missing keys, wrong
/// types and contradictions are errors. Paths are relative to the bundle, with forward slashes.
public struct Manifest: Sendable, Equatable {
    /// Version of the format that this code reads.
    public static let schemaVersion = 1
    /// Name of the file in a bundle's folder.
    public static let fileName = "manifest.json"

    /// Version of `kokoro-coreml` that wrote the bundle.
    public let projectVersion: String
    /// The recipe that was followed.
    public let recipe: Recipe
    /// Where the weights came from.
    public let checkpoint: Checkpoint
    /// Hz.
    public let sampleRate: Int
    /// Samples of one aligned frame.
    public let samplesPerFrame: Int
    /// Longest string of phonemes that the network takes at once.
    public let maxPhonemes: Int
    /// File with the vocabulary under the key `vocab`.
    public let vocabulary: String
    /// The Core ML packages; at least one.
    public let packages: [Package]
    /// Every static shape that the bundle can be run at; at least one.
    public let buckets: [Shape]
    /// How the constant noise was drawn.
    public let noise: Noise
    /// The voices.
    public let voices: [Voice]
    /// What the sample file says.
    public let sample: Sample?
    /// Version of every tool that shaped the bytes, by name.
    public let tools: ExactTable<String>
    /// What was executed and compared.
    public let parity: Parity
    /// Every file but the manifest, by path.
    public let files: ExactTable<File>

    /// Reads and checks the manifest of a bundle.
    ///
    /// - Parameter bundle: its folder.
    /// - Throws: `KokoroError.bundle` if there is none, or as `init(json:document:)`.
    public init(bundle: URL) throws {
        let url = bundle.appendingPathComponent(Self.fileName)
        let data: Data
        do {
            data = try Data(contentsOf: url)
        } catch {
            throw KokoroError.bundle(
                "'\(bundle.path)' is not a bundle: cannot read \(Self.fileName) "
                    + "(\(error.localizedDescription))")
        }
        try self.init(json: data, document: url.path)
    }

    /// Reads and checks the text of a manifest.
    ///
    /// - Parameters:
    ///   - json: UTF-8.
    ///   - document: its name, for messages.
    /// - Throws: `KokoroError.bundle` if it is not valid JSON, has another schema version, or
    ///   something in it is missing, unknown, of the wrong type or contradictory.
    public init(json: Data, document: String = fileName) throws {
        let value: JSONValue
        do {
            value = try JSONValue(parsing: json)
        } catch {
            throw KokoroError.bundle(
                "\(document): not valid JSON (\(error.localizedDescription))")
        }
        try Self.checkVersion(value, document: document)
        try self.init(Located(value: value, document: document))
        if let problem = firstProblem() { throw KokoroError.bundle("\(document): \(problem)") }
    }

    private static func checkVersion(_ value: JSONValue, document: String) throws {
        guard case .object(let table) = value, case .integer(let digits) = table["schema_version"],
            Int(digits) != schemaVersion
        else { return }
        throw KokoroError.bundle(
            "\(document): manifest schema version \(digits), but this version of kokoro-coreml "
                + "reads \(schemaVersion); use the version that wrote the bundle, or convert again")
    }

    private init(_ place: Located) throws {
        let record = try place.record([
            "schema_version", "project_version", "recipe", "checkpoint", "sample_rate",
            "samples_per_frame", "max_phonemes", "vocabulary", "packages", "buckets", "noise",
            "voices", "sample", "tools", "parity", "files",
        ])
        guard case .integer = record["schema_version"].value else {
            let found = record["schema_version"]
            throw found.failure("must be one of 1; found \(found.value.shown())")
        }
        projectVersion = try record["project_version"].text()
        recipe = try Recipe(record["recipe"])
        checkpoint = try Checkpoint(record["checkpoint"])
        sampleRate = try record["sample_rate"].positive()
        samplesPerFrame = try record["samples_per_frame"].positive()
        maxPhonemes = try record["max_phonemes"].positive()
        vocabulary = try record["vocabulary"].relativePath()
        packages = try record["packages"].list(minimum: 1, of: Package.init)
        buckets = try record["buckets"].list(minimum: 1, of: Shape.init)
        noise = try Noise(record["noise"])
        voices = try record["voices"].list(of: Voice.init)
        sample = try record["sample"].optional(Sample.init)
        tools = try record["tools"].table { try $0.text() }
        parity = try Parity(record["parity"])
        files = try record["files"].table(names: { _ = try $0.relativePath() }, of: File.init)
    }
}
