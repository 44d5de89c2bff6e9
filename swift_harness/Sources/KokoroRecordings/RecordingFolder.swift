import Foundation
import KokoroBundle

/// A folder of recordings as `kokoro-coreml goldens BUNDLE` writes it (`docs/goldens.md`).
public struct RecordingFolder: Sendable {
    static let manifestName = "manifest.json"
    static let configurationName = "config.json"
    private static let indexName = "index.json"

    /// SHA-256 of the index, which lists the digest of every file.
    public let indexSHA256: String
    /// SHA-256 of the recorded bundle's manifest.
    public let manifestSHA256: String
    /// The recorded utterances, by the names of their files.
    public let all: [Recording]
    /// Manifest and configuration of the recorded bundle.
    let bundleFiles: [String: Data]

    /// Whether a folder holds recordings, and not golden files of functions.
    public static func exists(at url: URL) -> Bool {
        [indexName, manifestName].allSatisfy {
            FileManager.default.fileExists(atPath: url.appendingPathComponent($0).path)
        }
    }

    /// Reads all of a folder.
    ///
    /// - Parameter url: of the folder.
    /// - Throws: `KokoroError.bundle` if something is missing, differs from its digest, or cannot
    ///   be read.
    public init(_ url: URL) throws {
        let index = try Self.read(Self.indexName, in: url)
        var (recordings, bundle): ([Recording], [String: Data]) = ([], [:])
        let own = [Self.manifestName, Self.configurationName]
        do {
            let files = try Fields(JSONValue(parsing: index)).table("files")
            for name in files.names.sorted() {
                let data = try Self.read(name, in: url)
                guard try files.table(name).text("sha256") == ContentDigest.of(data) else {
                    throw RecordingFailure("\(name) is not what \(Self.indexName) says")
                }
                if own.contains(name) {
                    bundle[name] = data
                } else {
                    recordings.append(try Recording(Fields(JSONValue(parsing: data))))
                }
            }
            for name in own where bundle[name] == nil {
                throw RecordingFailure("there is no \(name)")
            }
        } catch let error as RecordingFailure {
            throw KokoroError.bundle("the recordings in '\(url.path)': \(error.description)")
        } catch let error as JSONValue.Malformed {
            throw KokoroError.bundle(
                "the recordings in '\(url.path)' are no JSON: \(error.localizedDescription)")
        }
        guard !recordings.isEmpty else {
            throw KokoroError.bundle("'\(url.path)' holds no recording")
        }
        indexSHA256 = ContentDigest.of(index)
        manifestSHA256 = ContentDigest.of(bundle[Self.manifestName] ?? Data())
        bundleFiles = bundle
        all = recordings
    }

    private static func read(_ name: String, in folder: URL) throws -> Data {
        do {
            return try Data(contentsOf: folder.appendingPathComponent(name))
        } catch {
            throw KokoroError.bundle(
                "cannot read '\(name)' of the recordings in '\(folder.path)': "
                    + error.localizedDescription)
        }
    }
}
