import Foundation
import KokoroBundle

/// Where the example looks for its bundle.
public enum BundlePlace {
    /// The folder among the app's resources that bundles are copied to.
    public static let folder = "Models"
    /// The bundle's own folder in it.
    public static let name = "kokoro-82m"

    /// The bundle among the resources of an app.
    ///
    /// - Parameter resources: their folder; nil if the app has none.
    /// - Returns: folder of the bundle, of which only the manifest was looked for.
    /// - Throws: `KokoroError.bundle` that says what to copy where.
    public static func find(in resources: URL?) throws -> URL {
        let place = resources?.appendingPathComponent(folder).appendingPathComponent(name)
        guard let place,
            FileManager.default.fileExists(
                atPath: place.appendingPathComponent("manifest.json").path)
        else {
            throw KokoroError.bundle(
                "this app was built without a bundle; copy a folder that kokoro-coreml convert "
                    + "wrote to swift_harness/Examples/KokoroSay/\(folder)/\(name) and build again")
        }
        return place
    }
}
