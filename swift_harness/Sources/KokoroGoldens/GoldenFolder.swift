import Foundation
import KokoroBundle

/// A folder of golden files as `kokoro-coreml goldens` writes it: an index, and files whose digests
/// it lists (`docs/goldens.md`).
public struct GoldenFolder: Sendable {
    private static let indexName = "index.json"
    private static let vocabularyName = "vocabulary.json"

    /// The folder.
    public let url: URL
    /// What the cases were drawn from, nil where they were chosen.
    public let seed: UInt64?
    private let listed: GoldenInput

    /// Reads the index of a folder.
    ///
    /// - Parameter url: of the folder.
    /// - Throws: `KokoroError.bundle` if there is no index of schema 1.
    public init(_ url: URL) throws {
        self.url = url
        let index = try GoldenInput(values: Self.parsed(Self.read(Self.indexName, in: url), url))
        guard let schema: Int = try? index.integer("schema"), schema == 1,
            let files = try? index.table("files")
        else {
            throw KokoroError.bundle(
                "'\(url.path)' is no folder of golden files of schema 1; write it again")
        }
        listed = files
        seed = try? index.integer("seed", as: UInt64.self)
    }

    /// Names of the files that the index lists.
    public var files: [String] { listed.values.names }

    /// Names of the functions that have a file, sorted.
    public var functions: [String] {
        files.filter { $0 != Self.vocabularyName && $0.hasSuffix(".json") }
            .map { String($0.dropLast(".json".count)) }.sorted()
    }

    /// The content of a file.
    ///
    /// - Parameter file: its name in the index.
    /// - Returns: its bytes.
    /// - Throws: `KokoroError.bundle` if it is not listed, is missing, or is not what the index
    ///   says.
    public func content(_ file: String) throws -> Data {
        guard listed.has(file) else {
            throw KokoroError.bundle("'\(url.path)' lists no '\(file)'")
        }
        let data = try Self.read(file, in: url)
        guard let entry = try? listed.table(file), let bytes: Int = try? entry.integer("bytes"),
            (try? entry.text("sha256")) == ContentDigest.of(data), bytes == data.count
        else {
            throw KokoroError.bundle(
                "'\(url.appendingPathComponent(file).path)' is not what \(Self.indexName) says")
        }
        return data
    }

    /// The vocabulary that the cases of the tokenizer are of.
    ///
    /// - Throws: `KokoroError.bundle` as `content`, `KokoroError.checkpoint` if it is no vocabulary.
    public func vocabulary() throws -> Vocabulary {
        let head = Data(#"{"n_token": 178, "vocab": "#.utf8)
        let text = try head + content(Self.vocabularyName) + Data("}".utf8)
        return try Vocabulary(configuration: text, maxPhonemes: VoicePack.standardRows)
    }

    func object(_ file: String) throws -> ExactTable<JSONValue> {
        try Self.parsed(content(file), url.appendingPathComponent(file))
    }

    private static func read(_ file: String, in folder: URL) throws -> Data {
        do {
            return try Data(contentsOf: folder.appendingPathComponent(file))
        } catch {
            throw KokoroError.bundle(
                "cannot read '\(file)' of the golden files in '\(folder.path)': "
                    + error.localizedDescription)
        }
    }

    private static func parsed(_ data: Data, _ url: URL) throws -> ExactTable<JSONValue> {
        do {
            if case .object(let table) = try JSONValue(parsing: data) { return table }
        } catch {
            throw KokoroError.bundle("'\(url.path)': \(error.localizedDescription)")
        }
        throw KokoroError.bundle("'\(url.path)' holds no JSON object")
    }
}
