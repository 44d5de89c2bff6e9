import KokoroBundle
import KokoroSignal

/// A function that Python and this package both have.
public struct PortableFunction: Sendable {
    /// Name of the function, and of its golden file.
    public let name: String
    /// From the input of a golden case to its output; a `KokoroError` where it refuses.
    public let run: @Sendable (GoldenInput) throws -> GoldenValue

    init(_ name: String, _ run: @escaping @Sendable (GoldenInput) throws -> GoldenValue) {
        self.name = name
        self.run = run
    }

    /// Runs every case of the function's golden file.
    ///
    /// - Parameter folder: of the golden files.
    /// - Returns: the number of cases, and a sentence per case that is not as it must be.
    /// - Throws: `KokoroError.bundle` if the file is missing or not what the index says.
    public func check(in folder: GoldenFolder) throws -> (cases: Int, failures: [String]) {
        let file = try GoldenFile(name, in: folder)
        return (file.count, file.failures(run))
    }
}

/// All functions that Python and this package both have.
public enum PortableFunctions {
    /// As an app runs them on this system.
    ///
    /// - Parameter folder: of the golden files; gives the vocabulary.
    /// - Returns: functions by name.
    /// - Throws: `KokoroError` if the vocabulary cannot be read.
    public static func all(for folder: GoldenFolder) throws -> [PortableFunction] {
        try all(for: folder, using: FastMath.self)
    }

    /// As `all(for:)`, by one implementation of the arithmetic on rows.
    package static func all(
        for folder: GoldenFolder, using math: any VectorMath.Type
    ) throws -> [PortableFunction] {
        (try ofBundles(folder.vocabulary()) + ofSignals(math)).sorted { $0.name < $1.name }
    }
}
