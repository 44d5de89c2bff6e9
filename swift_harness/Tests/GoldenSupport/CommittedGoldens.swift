import Foundation
import KokoroGoldens

/// The golden files of this repository.
public enum CommittedGoldens {
    /// Their folder, seen from this file.
    public static let url = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("artifacts/goldens")

    /// Their index.
    ///
    /// - Throws: if there is none.
    public static func folder() throws -> GoldenFolder { try GoldenFolder(url) }
}
