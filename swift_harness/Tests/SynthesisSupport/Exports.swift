import Foundation
@_exported import KokoroRecordings

extension Recordings {
    /// The folder of those that are committed, seen from this file.
    public static let committed = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("artifacts/goldens/recordings")
}
