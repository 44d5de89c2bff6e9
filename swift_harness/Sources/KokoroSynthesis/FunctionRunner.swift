import KokoroBundle

/// One loaded function of a package. It may be run by several tasks at once.
///
/// It is unloaded when nothing refers to it any more.
public protocol FunctionRunner: Sendable {
    /// The function with its declared inputs and outputs, and its package.
    var place: PackagedFunction { get }

    /// Runs the function.
    ///
    /// - Parameter inputs: by name, one for each declared input.
    /// - Returns: by name, one for each declared output.
    /// - Throws: `KokoroError.package` if an input is missing, unknown or of another type or shape,
    ///   or the function cannot be run; `CancellationError` if the task was cancelled.
    func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor]
}

extension FunctionRunner {
    /// Runs the function on zeros, so that a first prediction costs what later ones do.
    ///
    /// - Throws: as `predict`.
    public func prewarm() async throws {
        let zeros = place.function.inputs.map { ($0.name, Tensor.zeros($0.type, shape: $0.shape)) }
        _ = try await predict(Dictionary(zeros, uniquingKeysWith: { first, _ in first }))
    }
}

/// What opens the functions of a bundle's packages.
public protocol StageProvider: Sendable {
    /// Loads a function. Who calls it keeps the runner as long as it is needed.
    ///
    /// - Parameter place: one of the bundle's manifest.
    /// - Returns: what runs it.
    /// - Throws: `KokoroError.package` if it cannot be loaded, or is not what the manifest says.
    func runner(for place: PackagedFunction) async throws -> any FunctionRunner
}
