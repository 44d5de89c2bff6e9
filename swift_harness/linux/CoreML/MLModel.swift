@_exported import Foundation

/// What Core ML may run a model on.
public enum MLComputeUnits: Int, Sendable {
    /// The processor alone.
    case cpuOnly = 0
    /// Processor and graphics processor.
    case cpuAndGPU = 1
    /// Whatever Core ML chooses.
    case all = 2
    /// Processor and Neural Engine.
    case cpuAndNeuralEngine = 3
}

/// How a model is loaded.
public final class MLModelConfiguration: NSObject {
    /// What it may run on.
    public var computeUnits = MLComputeUnits.all
    /// Function of the package, nil for its only or default one.
    @available(macOS 15, iOS 18, *)
    public var functionName: String? {
        get { standInFunction }
        set { standInFunction = newValue }
    }
    var standInFunction: String?
}

/// How a prediction is made; nothing can be chosen here.
public final class MLPredictionOptions: NSObject {}

/// A model that a test registered. Not `Sendable`, as Apple's is not promised to be.
public final class MLModel: NSObject {
    /// Inputs and outputs.
    public let modelDescription: MLModelDescription
    /// How it was loaded.
    public let configuration: MLModelConfiguration
    private let function: StandIn.Function

    private init(function: StandIn.Function, configuration: MLModelConfiguration) {
        self.function = function
        self.configuration = configuration
        modelDescription = function.standInDescription()
    }

    /// Compiles a package into a temporary folder.
    public class func compileModel(at modelURL: URL) async throws -> URL {
        guard FileManager.default.fileExists(atPath: modelURL.path) else {
            throw StandInFailure.error("a file could not be found: \(modelURL.path)")
        }
        let name = modelURL.deletingPathExtension().lastPathComponent
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("\(name)_\(UUID().uuidString).mlmodelc")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(name.utf8).write(to: folder.appendingPathComponent(StandIn.markFile))
        StandIn.record(.compiled(package: name))
        return folder
    }

    /// Loads a compiled model.
    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        let mark = url.appendingPathComponent(StandIn.markFile)
        guard let data = try? Data(contentsOf: mark) else {
            throw StandInFailure.error("\(url.path) is no compiled model")
        }
        let name = String(decoding: data, as: UTF8.self)
        let function = try StandIn.function(
            ofPackage: name, named: configuration.standInFunction)
        StandIn.record(
            .loaded(
                package: name, function: configuration.standInFunction,
                units: configuration.computeUnits, path: url.path))
        return MLModel(function: function, configuration: configuration)
    }

    /// Predicts, and blocks until it is done.
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try MLDictionaryFeatureProvider(dictionary: function.run(input))
    }

    /// Predicts.
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        await Task.yield()
        let values = try function.run(input)
        return try MLDictionaryFeatureProvider(dictionary: values)
    }
}
