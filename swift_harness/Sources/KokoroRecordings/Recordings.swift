import Foundation
import KokoroBundle

/// The recordings of a bundle, with what of it is needed to speak.
public final class Recordings: Sendable {
    /// The recorded utterances, by the names of their files.
    public var all: [Recording] { folder.all }
    /// Where they were read from.
    public let folder: RecordingFolder
    /// The bundle without its packages, which only a fake can run.
    public let bundle: BundleFolder
    private let place: TemporaryPlace

    /// Reads a folder of recordings.
    ///
    /// - Parameters:
    ///   - url: folder with an `index.json`.
    ///   - voices: folder with the voice packs `NAME.bin` of the recorded voices.
    /// - Throws: `KokoroError.bundle` if something is missing, differs from its digest, or cannot
    ///   be read, or there is no temporary folder; `.checkpoint` if the recorded configuration
    ///   cannot be read.
    public init(folder url: URL, voices: URL) throws {
        folder = try RecordingFolder(url)
        place = try TemporaryPlace()
        do {
            for (name, data) in folder.bundleFiles {
                try data.write(to: place.url.appendingPathComponent(name))
            }
            try FileManager.default.createSymbolicLink(
                at: place.url.appendingPathComponent("voices"), withDestinationURL: voices)
        } catch {
            throw KokoroError.bundle(
                "cannot write '\(place.url.path)': \(error.localizedDescription)")
        }
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
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw KokoroError.bundle("no temporary folder: \(error.localizedDescription)")
        }
    }

    deinit { remove() }

    func remove() { try? FileManager.default.removeItem(at: url) }
}
