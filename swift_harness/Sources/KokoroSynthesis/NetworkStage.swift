import KokoroBundle

/// The inputs of a stage.
public protocol StageInput: Sendable {
    /// By the names that the packages give them.
    var tensors: [String: Tensor] { get }
}

/// The outputs of a stage.
public protocol StageOutput: Sendable {
    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    init(_ outputs: NamedTensors) throws
}

/// What a stage gave, by name.
public struct NamedTensors: Sendable {
    /// Name of the stage, for messages.
    public let stage: String
    /// By name.
    public let tensors: [String: Tensor]

    /// Outputs of a stage.
    public init(stage: String, tensors: [String: Tensor]) {
        self.stage = stage
        self.tensors = tensors
    }

    /// One of them.
    ///
    /// - Throws: `KokoroError.package` if there is none of this name.
    public func tensor(_ name: String) throws -> Tensor {
        guard let tensor = tensors[name] else {
            let found = tensors.keys.sorted().joined(separator: ", ")
            throw KokoroError.package(
                "the stage \(stage) has no output '\(name)'; it has: \(found)")
        }
        return tensor
    }
}

/// A part of the network at one bucket.
public protocol NetworkStage<Input, Output>: Sendable {
    /// What goes in.
    associatedtype Input: StageInput
    /// What comes out.
    associatedtype Output: StageOutput

    /// Runs it.
    ///
    /// - Throws: `KokoroError.package` if it cannot be run, `KokoroError.parity` if it gives NaN or
    ///   infinity, `CancellationError` if the task was cancelled.
    func run(_ input: Input) async throws -> Output
}

/// ALBERT and its projection, over tokens.
public protocol EncoderStage: NetworkStage<EncoderInput, EncoderOutput> {}
/// Durations, the text encoder and all style projections, over tokens.
public protocol DurationStage: NetworkStage<DurationInput, DurationOutput> {}
/// Alignment, pitch and energy, over frames.
public protocol ProsodyStage: NetworkStage<ProsodyInput, ProsodyOutput> {}
/// The decoder's blocks, over frames.
public protocol DecoderStage: NetworkStage<DecoderInput, DecoderOutput> {}
/// Harmonics and noise and their spectrum, over frames.
public protocol SourceStage: NetworkStage<SourceInput, SourceOutput> {}
/// Upsampling, over frames in rows.
public protocol GeneratorStage: NetworkStage<GeneratorInput, GeneratorOutput> {}
/// Spectrum to samples, over frames.
public protocol TailStage: NetworkStage<TailInput, TailOutput> {}
/// The whole network in one package.
public protocol CompleteStage: NetworkStage<CompleteInput, CompleteOutput> {}
