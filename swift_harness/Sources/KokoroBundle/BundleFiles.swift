import Foundation

/// The files of a bundle's folder, and the check that they are still what was written.
public enum BundleFiles {
    /// Left by the Finder in any folder it shows; not part of a bundle.
    static let ignored = ".DS_Store"

    /// SHA-256 and size of every file of a folder but the manifest, by relative path.
    ///
    /// - Throws: `KokoroError.bundle` if something in it cannot be read, or is neither a file nor a
    ///   folder, such as a symbolic link.
    public static func hash(folder: URL) throws -> ExactTable<Manifest.File> {
        var found = ExactTable<Manifest.File>()
        try visit(folder, below: "") { path, url, bytes in
            found[path] = Manifest.File(sha256: try ContentDigest.of(fileAt: url), bytes: bytes)
        }
        return found
    }

    /// Reads the manifest of a bundle and compares every file with it.
    ///
    /// - Throws: `KokoroError.bundle` if the manifest is missing or wrong, or files are missing,
    ///   changed or extra; all of them are named.
    public static func verify(bundle: URL) throws -> Manifest {
        let manifest = try Manifest(bundle: bundle)
        let found = try hash(folder: bundle)
        let problems = differences(listed: manifest.files, found: found)
        guard problems.isEmpty else {
            throw KokoroError.bundle(
                "'\(bundle.path)' is not what was written: "
                    + "\(problems.joined(separator: "; ")). Convert it again")
        }
        return manifest
    }

    private static func differences(
        listed: ExactTable<Manifest.File>, found: ExactTable<Manifest.File>
    ) -> [String] {
        let groups = [
            ("missing", listed.names.filter { found[$0] == nil }),
            ("changed", listed.names.filter { found[$0] != nil && found[$0] != listed[$0] }),
            ("extra", found.names.filter { listed[$0] == nil }),
        ]
        return groups.filter { !$0.1.isEmpty }.map { kind, paths in
            let sorted = paths.sorted {
                $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars)
            }
            return "\(kind): \(sorted.joined(separator: ", "))"
        }
    }

    /// Goes through a folder; `found` takes the path, the place and the size of each file.
    private static func visit(
        _ folder: URL, below prefix: String, found: (String, URL, Int) throws -> Void
    ) throws {
        for name in try names(in: folder) {
            let url = folder.appendingPathComponent(name)
            let path = prefix + name
            let attributes = try? FileManager.default.attributesOfItem(atPath: url.path)
            switch attributes?[.type] as? FileAttributeType {
            case .some(.typeDirectory):
                try visit(url, below: path + "/", found: found)
            case .some(.typeRegular):
                guard path != Manifest.fileName, name != ignored else { continue }
                try found(path, url, (attributes?[.size] as? NSNumber)?.intValue ?? 0)
            default:
                throw KokoroError.bundle(
                    "'\(url.path)' is not a plain file; a bundle holds only files")
            }
        }
    }

    private static func names(in folder: URL) throws -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: folder.path)
        } catch {
            throw KokoroError.bundle(
                "cannot read the folder '\(folder.path)': \(error.localizedDescription)")
        }
    }
}
